// Package config reads a configuration file into valid values: TOML, with a file here
// per section, or the YAML of patroniglue 1.x (legacy.go). It reports all mistakes at
// once, each with its path in the file, the value and what is wanted.
package config
