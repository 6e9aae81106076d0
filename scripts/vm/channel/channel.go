// Package channel is the language between the rig and the agent in a guest:
// frames on a byte stream, both ways, many jobs side by side.
//
//	offset  size  field
//	     0     4  magic "urig", so that noise on the port is seen at once
//	     4     1  kind
//	     5     4  job, chosen by the rig; 0 for the connection itself
//	     9     4  length of the payload in bytes, at most MaxPayload
//	    13     n  payload: JSON for Hello, Start and Exit, raw bytes for streams
//
// Integers are big-endian. A job begins with Start, may get Stdin until an empty
// Stdin ends its input, answers with Stdout and Stderr, and ends with exactly one
// Exit. Each Stdin frame with bytes is answered by one Credit once it is
// consumed; the rig keeps at most Window of them unanswered, so neither end
// stores input without bound.
package channel

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
)

// Port is the name of the virtio-serial port.
const Port = "org.urbd.rig"

const (
	// MaxPayload bounds one frame, in bytes.
	MaxPayload = 64 << 10
	// Window is how many Stdin frames of one job may be unanswered.
	Window     = 16
	headerSize = 13
	magic      = "urig"
)

// A Kind says what a frame is.
type Kind byte

const (
	Hello  Kind = 1 + iota // agent to rig, after each start of the agent
	Alive                  // agent to rig, once a second
	Start                  // rig to agent: begin a job
	Stdin                  // rig to agent: input; empty means end of input
	Signal                 // rig to agent: one byte, the signal for the job's process group
	Resize                 // rig to agent: rows and columns, two bytes each
	Credit                 // agent to rig: one Stdin frame was consumed
	Stdout                 // agent to rig
	Stderr                 // agent to rig
	Exit                   // agent to rig: the job is over
)

// An Op is what a job does.
type Op string

const (
	Exec Op = "exec" // run Argv
	Put  Op = "put"  // write Stdin to Path, through a temporary name
	Get  Op = "get"  // send Path as Stdout
)

// HelloData introduces an agent.
type HelloData struct {
	Release string // uname -r
	Name    string // uname -n
}

// StartData describes a job.
type StartData struct {
	Op         Op
	Argv       []string `json:",omitempty"`
	Env        []string `json:",omitempty"` // added to the agent's
	Dir        string   `json:",omitempty"`
	Path       string   `json:",omitempty"`
	Mode       uint32   `json:",omitempty"` // permission bits of Put
	Terminal   bool     `json:",omitempty"` // run on a pseudo terminal; Stderr comes as Stdout
	Rows, Cols uint16   `json:",omitempty"`
}

// ExitData ends a job: an error of the agent, or how the process ended.
type ExitData struct {
	Error  string `json:",omitempty"`
	Code   int    // exit code; 128+signal if a signal ended it
	Signal int    `json:",omitempty"`
}

// A Frame is one message.
type Frame struct {
	Kind    Kind
	Job     uint32
	Payload []byte
}

// A FormatError means that the stream holds no frame where one is due. The
// stream cannot be used any further.
type FormatError struct{ Reason string }

func (e *FormatError) Error() string { return "rig channel: " + e.Reason }

// Read reads one frame. At a clean end of the stream it returns io.EOF.
func Read(r io.Reader) (Frame, error) {
	var h [headerSize]byte
	if _, err := io.ReadFull(r, h[:]); err != nil {
		return Frame{}, err
	}
	if string(h[:4]) != magic {
		return Frame{}, &FormatError{fmt.Sprintf("%q is not the start of a frame", h[:4])}
	}
	f := Frame{Kind: Kind(h[4]), Job: binary.BigEndian.Uint32(h[5:])}
	if f.Kind < Hello || f.Kind > Exit {
		return Frame{}, &FormatError{fmt.Sprintf("unknown kind %d", f.Kind)}
	}
	size := binary.BigEndian.Uint32(h[9:])
	if size > MaxPayload {
		return Frame{}, &FormatError{fmt.Sprintf("payload of %d bytes", size)}
	}
	f.Payload = make([]byte, size)
	if _, err := io.ReadFull(r, f.Payload); err != nil {
		if err == io.EOF {
			err = io.ErrUnexpectedEOF
		}
		return Frame{}, err
	}
	return f, nil
}

// Append adds the encoding of f to b. It panics when the payload exceeds MaxPayload.
func Append(b []byte, f Frame) []byte {
	if len(f.Payload) > MaxPayload {
		panic(fmt.Sprintf("channel: payload of %d bytes", len(f.Payload)))
	}
	b = append(b, magic...)
	b = append(b, byte(f.Kind))
	b = binary.BigEndian.AppendUint32(b, f.Job)
	b = binary.BigEndian.AppendUint32(b, uint32(len(f.Payload)))
	return append(b, f.Payload...)
}

// JSON makes a frame whose payload is v.
func JSON(kind Kind, job uint32, v any) (Frame, error) {
	payload, err := json.Marshal(v)
	if err != nil {
		return Frame{}, err
	}
	if len(payload) > MaxPayload {
		return Frame{}, &FormatError{fmt.Sprintf("a job description of %d bytes, at most %d", len(payload), MaxPayload)}
	}
	return Frame{Kind: kind, Job: job, Payload: payload}, nil
}
