package main

import (
	"bytes"
	"io"
	"os"
)

// An input hands this program's standard input to one reader after another. A
// read of a terminal cannot be called off, so only one goroutine ever reads it;
// whoever's turn it is takes from that.
type input struct {
	chunks chan []byte // closed at the end of the input
	rest   []byte      // taken and not yet used
}

func newInput() *input {
	in := &input{chunks: make(chan []byte)}
	go func() {
		defer close(in.chunks)
		for {
			buf := make([]byte, 4096)
			n, err := os.Stdin.Read(buf)
			if n > 0 {
				in.chunks <- buf[:n]
			}
			if err != nil {
				return
			}
		}
	}()
	return in
}

// take returns some bytes, or io.EOF at the end or when done is closed.
func (in *input) take(done <-chan struct{}) ([]byte, error) {
	if len(in.rest) > 0 {
		chunk := in.rest
		in.rest = nil
		return chunk, nil
	}
	select {
	case chunk, ok := <-in.chunks:
		if !ok {
			return nil, io.EOF
		}
		return chunk, nil
	case <-done:
		return nil, io.EOF
	}
}

// line returns one line without its end.
func (in *input) line(done <-chan struct{}) (string, error) {
	var line []byte
	for {
		chunk, err := in.take(done)
		if err != nil {
			return "", err
		}
		before, after, found := bytes.Cut(chunk, []byte("\n"))
		line = append(line, before...)
		if found {
			in.rest = after
			return string(line), nil
		}
	}
}

// A turn reads the input until its end is closed.
type turn struct {
	in  *input
	end <-chan struct{}
}

func (t turn) Read(p []byte) (int, error) {
	chunk, err := t.in.take(t.end)
	if err != nil {
		return 0, err
	}
	n := copy(p, chunk)
	t.in.rest = chunk[n:]
	return n, nil
}
