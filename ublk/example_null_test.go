package ublk_test

import (
	"context"
	"fmt"
	"log"
	"time"

	"github.com/urbd/urbd/ublk"
	"github.com/urbd/urbd/ublk/uring"
)

// A disk that forgets everything: each request is answered inside Handle, on the thread of its queue's ring.
func Example_null() {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	dev, err := ublk.Create(ctx, ublk.Config{ID: ublk.AnyID, Queues: 2, Geometry: ublk.Geometry{Size: 1 << 30}})
	if err != nil {
		log.Fatal(err)
	}
	null := ublk.HandlerFunc(func(r *ublk.Request) {
		clear(r.Bytes()) // what a read brings; other requests have nothing here that matters
		r.Complete(nil)
	})
	srv, err := ublk.ListenAndServe(ctx, dev, func(int, *uring.Ring) (ublk.Handler, error) { return null, nil })
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println("a null disk is there:", dev.Path() != "")
	if err := srv.Close(ctx); err != nil {
		log.Fatal(err)
	}
	if err := dev.Delete(ctx); err != nil {
		log.Fatal(err)
	}
}
