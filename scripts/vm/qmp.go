package vm

import (
	"bufio"
	"encoding/json"
	"fmt"
	"net"
	"sync"
	"time"
)

// qmpTimeout bounds one command to the machine's monitor.
const qmpTimeout = 20 * time.Second

// A monitor speaks QEMU's machine protocol (QMP): one JSON object a line,
// answers in order, events in between.
type monitor struct {
	mu   sync.Mutex
	conn net.Conn
	r    *bufio.Reader
}

type qmpAnswer struct {
	Return json.RawMessage `json:"return"`
	Error  *struct {
		Class string `json:"class"`
		Desc  string `json:"desc"`
	} `json:"error"`
}

// newMonitor reads the greeting and leaves the negotiation mode.
func newMonitor(conn net.Conn) (*monitor, error) {
	m := &monitor{conn: conn, r: bufio.NewReader(conn)}
	if err := conn.SetDeadline(time.Now().Add(qmpTimeout)); err != nil {
		return nil, err
	}
	if _, err := m.r.ReadBytes('\n'); err != nil {
		return nil, fmt.Errorf("qmp greeting: %w", err)
	}
	return m, m.execute("qmp_capabilities", nil)
}

// execute runs one command and waits until it is done.
func (m *monitor) execute(command string, arguments map[string]any) error {
	_, err := m.ask(command, arguments)
	return err
}

// ask runs one command and returns its answer.
func (m *monitor) ask(command string, arguments map[string]any) (json.RawMessage, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	request := map[string]any{"execute": command}
	if arguments != nil {
		request["arguments"] = arguments
	}
	line, err := json.Marshal(request)
	if err != nil {
		return nil, err
	}
	if err := m.conn.SetDeadline(time.Now().Add(qmpTimeout)); err != nil {
		return nil, err
	}
	if _, err := m.conn.Write(append(line, '\n')); err != nil {
		return nil, fmt.Errorf("qmp %s: %w", command, err)
	}
	for {
		line, err := m.r.ReadBytes('\n')
		if err != nil {
			return nil, fmt.Errorf("qmp %s: %w", command, err)
		}
		var answer qmpAnswer
		if err := json.Unmarshal(line, &answer); err != nil {
			return nil, fmt.Errorf("qmp %s: %w", command, err)
		}
		switch {
		case answer.Error != nil:
			return nil, fmt.Errorf("qmp %s: %s: %s", command, answer.Error.Class, answer.Error.Desc)
		case answer.Return != nil:
			return answer.Return, nil
		}
	}
}

func (m *monitor) close() { m.conn.Close() }
