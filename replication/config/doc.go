// Package config turns a DRBD configuration (the .res grammar of 8.4) into typed, checked options.
//
//	bytes --lexer--> tokens --parser--> syntax tree --resolve--> Config --checks--> Config or Errors
//	                                        ^                       ^
//	                              the option table          inheritance (TRAP 17)
//
// What it decides: which words are legal and where, what a number means (unit, suffix, limits), which level of
// the file an option is taken from, which combinations are refused, and what urbd serves of it. Every option of
// 8.4 is one row of the table (options_net.go and its neighbours); the row also says whether urbd serves it. An
// option that is not served is warned about or refused by name, never dropped in silence.
//
// The package is pure: it reads files only through the functions of a Source and prints only to the writer that
// Dump is given. All sizes and rates are bytes, all times are durations.
//
// Limits: 4 MiB in at most 1024 files, 8 host sections of at most 8 names and 256 volumes per resource, 20 reported
// errors. Any input ends in a Config or in Errors; none makes the package panic or allocate without bound.
//
// Sources: docs/drbd-metadata.md 9 (options, grammar, traps 16 and 17), docs/drbd-cli.md 2.1, 2.3 and 2.4.
package config
