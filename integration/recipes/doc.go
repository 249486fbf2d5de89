// Package recipes tests named recipes: images pulled through a recipe's name, without
// a submission.
//
// Files: main_test.go (TestMain), landing_test.go (modes of directories), recipes_test.go (pulls, reloads, documents),
// tags_test.go (tags while the upstream is down).
package recipes
