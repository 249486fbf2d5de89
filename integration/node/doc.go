// Package node tests nodes that are set up with "waveproxy hosts": containerd pulls
// images by their own names and gets them through a recipe.
//
// Files: main_test.go (TestMain), node_test.go (containerd 1 and 2).
package node
