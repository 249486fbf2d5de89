package config

import (
	"strings"
)

// S3 is a bucket of Amazon S3 or of a storage that is compatible with it: MinIO, Ceph,
// Cloudflare R2, versitygw. It must keep the conditions of writes (If-None-Match and
// If-Match), which is tested at the first start.
type S3 struct {
	// Bucket is the bucket's name. Default: none; everything is in storage.dir.
	Bucket string `yaml:"bucket"`
	// Prefix begins the names of all objects: a path, for a bucket that is not this
	// server's alone. Default: none.
	Prefix string `yaml:"prefix"`
	// Region is the bucket's. Default: that of the AWS SDK (AWS_REGION, its
	// configuration file), else us-east-1.
	Region string `yaml:"region"`
	// Endpoint is the URL of a storage other than Amazon's, or of a VPC endpoint.
	// Default: Amazon's of the region.
	Endpoint URL `yaml:"endpoint"`
	// PathStyle puts the bucket's name into the path and not into the host, as most
	// storages other than Amazon's need it. Default: false.
	PathStyle bool `yaml:"path_style"`
	// AccessKeyID is the key of a user, and needs one of the secrets. Default: the
	// credentials that the AWS SDK finds: its environment variables and files, the role of
	// the pod (IRSA, pod identity) or of the machine.
	AccessKeyID string `yaml:"access_key_id"`
	// SecretAccessKey is the secret of the key.
	SecretAccessKey Secret `yaml:"secret_access_key"`
	// SecretAccessKeyFile holds the secret. It is read again each minute.
	SecretAccessKeyFile string `yaml:"secret_access_key_file"`
	// SecretAccessKeyEnv is the environment variable that holds it.
	SecretAccessKeyEnv string `yaml:"secret_access_key_env"`
	// Role is the ARN of a role to assume.
	Role string `yaml:"role"`
	// ExternalID is the external id that the trust policy of the role asks for.
	ExternalID string `yaml:"external_id"`
}

// Secret returns the secret access key, or "" if none is given.
func (s S3) Secret() (string, error) { return s.secretAccessKey().readGiven() }

func (s S3) secretAccessKey() secretSource {
	return secretSource{s.SecretAccessKey, s.SecretAccessKeyFile, s.SecretAccessKeyEnv}
}

// InBucket reports whether the storage is a bucket. Then the directory has temporary
// files and the cache only.
func (s Storage) InBucket() bool { return s.S3.Bucket != "" }

func (c *Config) checkBucket(k checker) {
	s := c.Storage
	s.S3.check(k)
	if !s.InBucket() {
		if s.Redirect {
			k.add("storage.redirect", s.Redirect, "is for a bucket, and none is given")
		}
		return
	}
	if len(c.Tokens.Keys) == 0 {
		k.add("tokens.keys", "", "a bucket needs a key that all servers have, and that the bucket does not: openssl rand -base64 32")
	}
}

func (s S3) check(k checker) {
	if s.Bucket == "" {
		if s != (S3{}) {
			k.add("storage.s3.bucket", s.Bucket, "other keys of storage.s3 are given, but no bucket")
		}
		return
	}
	if strings.ContainsAny(s.Bucket, "/ :?#") {
		k.add("storage.s3.bucket", s.Bucket, "want the name alone; what follows it is the prefix")
	}
	checkPrefix("storage.s3.prefix", s.Prefix, k)
	k.secret("storage.s3.secret_access_key", s.secretAccessKey())
	if (s.AccessKeyID == "") == s.secretAccessKey().given() {
		k.add("storage.s3.access_key_id", s.AccessKeyID, "give both the id and the secret of the key, or neither")
	}
	if s.ExternalID != "" && s.Role == "" {
		k.add("storage.s3.external_id", s.ExternalID, "is for a role, and none is given")
	}
}

func checkPrefix(key, prefix string, k checker) {
	if strings.HasPrefix(prefix, "/") || strings.HasSuffix(prefix, "/") || strings.Contains(prefix, "//") || strings.ContainsAny(prefix, "?# \\") {
		k.add(key, prefix, "want a path without slashes at its ends")
	}
}
