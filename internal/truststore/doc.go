// Package truststore adds certificates to the files in which images keep the
// authorities that their programs trust: bundles in PEM and key stores of Java. It works on
// bytes alone, and the same bytes in give the same bytes out.
//
// Files: certificate.go (reading certificates, and how they are called), pem.go (bundles),
// jks.go and pkcs12.go (key stores of Java), hash.go (OpenSSL's name of a certificate).
package truststore
