//go:build !race

package statemachine

const underRace = false
