package channel

import (
	"bytes"
	"errors"
	"io"
	"testing"

	"github.com/urbd/urbd/scripts/fuzztest"
)

func TestFrameLayout(t *testing.T) {
	got := Append(nil, Frame{Kind: Stdin, Job: 0x01020304, Payload: []byte("ab")})
	want := []byte("urig\x04\x01\x02\x03\x04\x00\x00\x00\x02ab")
	if !bytes.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestReadRefusesWhatIsNoFrame(t *testing.T) {
	good := Append(nil, Frame{Kind: Stdout, Job: 1, Payload: []byte("abc")})
	var format *FormatError
	change := func(at int, to byte) []byte {
		b := bytes.Clone(good)
		b[at] = to
		return b
	}
	for name, b := range map[string][]byte{
		"magic": change(0, 'x'), "kind 0": change(4, 0), "kind 99": change(4, 99), "length": change(9, 0x7f),
	} {
		if _, err := Read(bytes.NewReader(b)); !errors.As(err, &format) {
			t.Errorf("%s: %v", name, err)
		}
	}
	for n := range good {
		_, err := Read(bytes.NewReader(good[:n]))
		if n == 0 && err != io.EOF || n > 0 && err != io.ErrUnexpectedEOF {
			t.Errorf("%d bytes of a frame: %v", n, err)
		}
	}
}

func TestAppendRefusesTooMuch(t *testing.T) {
	defer func() {
		if recover() == nil {
			t.Error("a payload over the limit was encoded")
		}
	}()
	Append(nil, Frame{Kind: Stdout, Payload: make([]byte, MaxPayload+1)})
}

func FuzzFrame(f *testing.F) {
	fuzztest.Begin(f)
	f.Add(Append(nil, Frame{Kind: Hello, Payload: []byte(`{}`)}))
	f.Add(Append(Append(nil, Frame{Kind: Alive}), Frame{Kind: Exit, Job: 7, Payload: []byte(`{"Code":1}`)}))
	f.Fuzz(func(t *testing.T, b []byte) {
		r := bytes.NewReader(b)
		var again []byte
		for {
			frame, err := Read(r)
			if err != nil {
				break
			}
			again = Append(again, frame)
		}
		if !bytes.HasPrefix(b, again) {
			t.Errorf("read and written again: %q, from %q", again, b)
		}
	})
}
