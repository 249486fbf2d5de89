package structure

// root is the folder of the module, seen from this package.
const root = "../.."
