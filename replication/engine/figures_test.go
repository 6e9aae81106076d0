package engine

import (
	"fmt"
	"os"
	"strings"
	"testing"
	"time"
)

// TestFiguresOfThePage builds ARCHITECTURE's figures from what the engine has.
func TestFiguresOfThePage(t *testing.T) {
	page, err := os.ReadFile("../../ARCHITECTURE.md")
	if err != nil {
		t.Fatal(err)
	}
	delay := func(p Protocol) time.Duration {
		e := &Engine{}
		e.cfg.Net.Protocol = p
		return e.barrierDelay()
	}
	text := strings.Join(strings.Fields(string(page)), " ")
	for _, want := range []string{
		fmt.Sprintf("With protocol C an epoch goes on for %d ms", delay(ProtocolC).Milliseconds()),
		fmt.Sprintf("the barrier waits up to %d ms for it", delay(ProtocolA).Milliseconds()),
		fmt.Sprintf("it waits up to %d ms for company", ackDelay.Milliseconds()),
		fmt.Sprintf("(for `disconnect` and `down` after %v s)", forcedPatience.Seconds()),
	} {
		if !strings.Contains(text, want) {
			t.Errorf("ARCHITECTURE.md does not say: %s", want)
		}
	}
}
