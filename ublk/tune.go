package ublk

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"time"
)

// tuneLimit is how long Tune waits for the kernel, which waits for the requests in flight.
const tuneLimit = 10 * time.Second

// Tune writes a setting of the disk's queue (/sys/block/ublkbN/queue), such as "scheduler", unless it is so already. The disk must be started.
// Needs /bin/sh.
//
// For most settings the kernel freezes the queue: it waits, and nothing interrupts that, until every request in flight is answered. If a thread
// of the server waited so, a server that is killed meanwhile could not end: the requests wait for the next server, and that one for the
// end of this. So another process writes.
func (d *Device) Tune(name, value string) error {
	path := fmt.Sprintf("/sys/block/ublkb%d/queue/%s", d.ID(), name)
	now, err := os.ReadFile(path)
	if err != nil {
		return d.fail("tune", err)
	}
	if isSet(string(now), value) {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), tuneLimit)
	defer cancel()
	done := make(chan error, 1)
	go func() {
		out, err := exec.Command("/bin/sh", "-c", `printf %s "$2" >"$1"`, "sh", path, value).CombinedOutput()
		if err != nil {
			err = fmt.Errorf("%s is not written to %s: %w: %s", value, path, err, strings.TrimSpace(string(out)))
		}
		done <- err
	}()
	select {
	case err = <-done:
	case <-ctx.Done():
		err = fmt.Errorf("%s is not written to %s within %v: requests are in flight that nobody answers", value, path, tuneLimit)
	}
	return d.fail("tune", err)
}

// isSet reports whether a setting is what is asked for; of one that is chosen from several, the chosen one stands in brackets.
func isSet(now, value string) bool {
	now = strings.TrimSpace(now)
	return now == value || strings.Contains(now, "["+value+"]")
}
