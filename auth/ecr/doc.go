// Package ecr is a keychain for Amazon ECR: it turns an AWS identity into a
// login for private registries, <account>.dkr.ecr.<region>.amazonaws.com and
// their other names, and for public.ecr.aws.
//
// The identity comes from the options, else from the AWS SDK: environment,
// configuration files, IRSA, pod identity, instance profile. It needs the
// permission ecr:GetAuthorizationToken, for public.ecr.aws instead
// ecr-public:GetAuthorizationToken and sts:GetServiceBearerToken, and the
// permissions that the repositories' policies require.
//
// The package must never ask AWS about a registry that is not ECR, or let a key
// or a token into an error or a log.
//
// Files: ecr.go (the registries and their logins), identity.go (AWS identities, errors
// and remedies).
package ecr
