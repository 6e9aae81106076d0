//go:build race

package statemachine

// underRace makes the walks stop after some hundred states: there is no goroutine in this package, and the
// detector makes them ten times slower. Without it they go to the end.
const underRace = true
