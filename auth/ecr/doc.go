// Package ecr is a keychain for Amazon ECR: it turns an AWS identity into a
// login for private registries, <account>.dkr.ecr.<region>.amazonaws.com and
// their other names, and for public.ecr.aws.
//
// The identity is that of the options, else what the AWS SDK finds: environment,
// configuration files, IRSA, pod identity, instance profile. It needs the
// permission ecr:GetAuthorizationToken, for public.ecr.aws instead
// ecr-public:GetAuthorizationToken and sts:GetServiceBearerToken, and what the
// repositories' policies ask for.
//
// The package must never ask AWS about a registry that is not ECR, or let a key
// or a token into an error or a log.
package ecr
