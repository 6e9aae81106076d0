package config

import (
	"fmt"
	"strings"
	"testing"
)

// TestTokens: kind, text and place of every token, with columns counted in characters.
func TestTokens(t *testing.T) {
	const text = "on \"größe\" {\t# comment }\r\n  address ipv6 [fe80::1%eth0]:7789; x[3] \"\\\\\\\"\\n\"\n}"
	want := []string{
		"word on 1:1-1:3", "string größe 1:4-1:11", "punctuation { 1:12-1:13",
		"word address 2:3-2:10", "word ipv6 2:11-2:15", "bracketed fe80::1%eth0 2:16-2:30", "punctuation : 2:30-2:31",
		"word 7789 2:31-2:35", "punctuation ; 2:35-2:36", "word x 2:37-2:38", "punctuation [ 2:38-2:39", "word 3 2:39-2:40",
		"punctuation ] 2:40-2:41", `string \"n 2:42-2:50`, "punctuation } 3:1-3:2", "end  3:2-3:2", "end  3:2-3:2",
	}
	var r report
	l := newLexer("f", text, &r)
	kinds := map[tokenKind]string{endOfFile: "end", bareWord: "word", quotedString: "string", bracketed: "bracketed", punctuation: "punctuation", badToken: "bad"}
	for i, w := range want {
		tok := l.next()
		got := fmt.Sprintf("%s %s %d:%d-%d:%d", kinds[tok.kind], tok.text, tok.pos.Line, tok.pos.Column, tok.end.Line, tok.end.Column)
		if got != w {
			t.Errorf("token %d is %s, want %s", i, got, w)
		}
	}
	if r.err() != nil {
		t.Error(r.err())
	}
}

// TestBadTokens: what cannot be a token is reported once, where it is.
func TestBadTokens(t *testing.T) {
	for text, want := range map[string]string{
		`a = b`:                              `f:1:3: character "=" is not allowed here`,
		`"abc`:                               "f:1:1: this string does not end",
		"\"abc\n\"":                          "f:1:1: this string does not end",
		`"\`:                                 "f:1:1: this string does not end",
		`"` + strings.Repeat("x", 256) + `"`: "f:1:1: this string is longer than 255 bytes",
		"\"\xff\"":                           "f:1:1: this string is not valid UTF-8 text",
		"\"a\x00\"":                          "f:1:1: this string is not valid UTF-8 text",
		strings.Repeat("x", 129):             "f:1:1: a word of 129 characters: 128 are allowed",
	} {
		var r report
		l := newLexer("f", text, &r)
		for l.next().kind != endOfFile {
		}
		if len(r.errs) == 0 || !strings.HasPrefix(r.errs[0].Error(), want) {
			t.Errorf("%q: %v, want %s", text, r.err(), want)
		}
	}
}
