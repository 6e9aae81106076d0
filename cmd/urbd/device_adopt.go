package main

import (
	"context"
	"errors"
	"sync"
	"time"
)

// goLimit is how long the kernel may take to send the requests that have waited.
const goLimit = 30 * time.Second

// An adoption is how far the users are of a device that was found without a server:
//
//	found --> waiting --begin--> going --end(nil)--> over
//	             ^                 |
//	             +----end(err)-----+
//
// The zero value is over: a device that nobody waits for.
type adoption struct {
	mu      sync.Mutex // leaf
	waiting bool       // waiting, or going
	going   chan struct{}
	size    int64 // bytes, wanted meanwhile; 0: none
	err     error // why the last going has failed
}

var errUsersWait = errors.New("the users of the block device wait to be served again")

func (a *adoption) found() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.waiting, a.err = true, errUsersWait
}

// pending says that it is not over.
func (a *adoption) pending() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.waiting
}

// begin says that the users are to be let go, and that it is for the caller to do.
func (a *adoption) begin() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	if !a.waiting || a.going != nil {
		return false
	}
	a.going = make(chan struct{})
	return true
}

// end ends what begin began, unless there is a size that was wanted meanwhile: that has to be set first.
func (a *adoption) end(err error) (size int64) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if size = a.size; size != 0 && err == nil {
		a.size = 0
		return size
	}
	close(a.going)
	a.going, a.err, a.waiting = nil, err, err != nil
	return 0
}

// keep takes a size for later; false when it is over.
func (a *adoption) keep(size int64) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.waiting {
		a.size = size
	}
	return a.waiting
}

// settle waits while the users are being let go. It is nil when they are, or when there are none.
func (a *adoption) settle(ctx context.Context) error {
	a.mu.Lock()
	going := a.going
	a.mu.Unlock()
	if going != nil {
		select {
		case <-going:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.waiting {
		return a.err
	}
	return nil
}

// forget is for a device that has been stopped.
func (a *adoption) forget() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.waiting, a.size, a.err = false, 0, nil
}

// letGo tells the kernel that an adopted device is served again.
func (d *device) letGo() {
	ctx, cancel := context.WithTimeout(context.Background(), goLimit)
	defer cancel()
	err := d.dev.Start(ctx)
	if err == nil {
		d.appeared()
	}
	for {
		size := d.adoption.end(err)
		if size == 0 {
			break
		}
		err = d.fit(ctx, size)
	}
	if err != nil {
		d.logger.Error("the users of the block device still wait: it cannot be served again", "device", d.Path(), "err", err)
	}
}
