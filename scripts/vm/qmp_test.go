package vm

import (
	"bufio"
	"fmt"
	"net"
	"strings"
	"testing"
)

// fakeQEMU answers each command with the lines given for it.
func fakeQEMU(t *testing.T, answers map[string]string) net.Conn {
	near, far := net.Pipe()
	done := make(chan struct{})
	go func() {
		defer close(done)
		fmt.Fprintln(far, `{"QMP": {"version": {}, "capabilities": ["oob"]}}`)
		in := bufio.NewScanner(far)
		for in.Scan() {
			for command, lines := range answers {
				if strings.Contains(in.Text(), `"`+command+`"`) {
					fmt.Fprintln(far, lines)
				}
			}
		}
	}()
	t.Cleanup(func() { near.Close(); far.Close(); <-done })
	return near
}

func TestMonitor(t *testing.T) {
	m, err := newMonitor(fakeQEMU(t, map[string]string{
		"qmp_capabilities":      `{"return": {}}`,
		"set_link":              `{"event": "NIC_RX_FILTER_CHANGED", "data": {}}` + "\n" + `{"return": {}}`,
		"quit":                  `{"error": {"class": "GenericError", "desc": "not now"}}`,
		"human-monitor-command": `{"return": "CPU#0\r\nRIP=ffffffff81 RFL=00000246 CPL=0 II=0 A20=1 SMM=0 HLT=1\r\nCPU#1\r\nRIP=1000 HLT=0\r\n"}`,
	}))
	if err != nil {
		t.Fatal(err)
	}
	if err := m.execute("set_link", map[string]any{"name": "nic0", "up": false}); err != nil {
		t.Error(err)
	}
	if err := m.execute("quit", nil); err == nil || !strings.Contains(err.Error(), "not now") {
		t.Error(err)
	}
	if got := (&machine{monitor: m}).processors(); got != "processors: RIP=ffffffff81 HLT=1 RIP=1000 HLT=0" {
		t.Error(got)
	}
	m.close()
	if err := m.execute("set_link", nil); err == nil {
		t.Error("a command on a closed monitor worked")
	}
}
