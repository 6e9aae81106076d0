package sim

import (
	"container/heap"

	"github.com/urbd/urbd/replication/engine"
)

// agenda is what will happen, by virtual time; what is due at the same time
// happens in the order in which it was planned.
type agenda struct {
	list []plan
	seq  uint64
}

type plan struct {
	at  engine.Instant
	seq uint64
	do  func()
}

func (a *agenda) Len() int { return len(a.list) }
func (a *agenda) Less(i, j int) bool {
	x, y := &a.list[i], &a.list[j]
	return x.at < y.at || x.at == y.at && x.seq < y.seq
}
func (a *agenda) Swap(i, j int) { a.list[i], a.list[j] = a.list[j], a.list[i] }
func (a *agenda) Push(x any)    { a.list = append(a.list, x.(plan)) }
func (a *agenda) Pop() any {
	last := len(a.list) - 1
	p := a.list[last]
	a.list[last] = plan{}
	a.list = a.list[:last]
	return p
}

// plan adds what happens at a time.
func (a *agenda) plan(at engine.Instant, do func()) {
	a.seq++
	heap.Push(a, plan{at, a.seq, do})
}

// next is when something happens, or Never.
func (a *agenda) next() engine.Instant {
	if len(a.list) == 0 {
		return engine.Never
	}
	return a.list[0].at
}

func (a *agenda) pop() func() { return heap.Pop(a).(plan).do }
