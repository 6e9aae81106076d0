package replication

import (
	"sync"

	"github.com/urbd/urbd/replication/engine"
)

// broadcast tells any number of listeners that something has changed.
type broadcast struct {
	mu   sync.Mutex
	next chan struct{}
}

// wait gives a channel that is closed at the next change.
func (b *broadcast) wait() <-chan struct{} {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.next == nil {
		b.next = make(chan struct{})
	}
	return b.next
}

func (b *broadcast) changed() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.next != nil {
		close(b.next)
		b.next = nil
	}
}

// eventQueue carries events from the loop, which must not wait, to the
// supervisor. Events are rare; what bounds the queue is that there is a finite number of
// transitions until somebody acts.
type eventQueue struct {
	mu   sync.Mutex
	all  []engine.Event
	some chan struct{} // has an element when all is not empty
}

func (q *eventQueue) put(ev engine.Event) {
	q.mu.Lock()
	q.all = append(q.all, ev)
	q.mu.Unlock()
	select {
	case q.some <- struct{}{}:
	default:
	}
}

func (q *eventQueue) take() []engine.Event {
	q.mu.Lock()
	defer q.mu.Unlock()
	all := q.all
	q.all = nil
	return all
}
