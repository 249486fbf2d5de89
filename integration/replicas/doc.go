// Package replicas tests two servers that share a storage, behind nginx with the
// configuration in deploy.
//
// Files: bucket_test.go (servers that share a bucket), main_test.go (TestMain), nginx_test.go (the behaviour of nginx),
// recipe_test.go (recipes while a server is killed and a tag moves),
// replicas_test.go (the two servers and nginx).
package replicas
