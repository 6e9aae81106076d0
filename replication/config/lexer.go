package config

import (
	"strings"
	"unicode/utf8"
)

// Limits of the text. Source: docs/drbd-metadata.md 9.2.
const (
	maxWord = 128
	maxText = 255
)

type tokenKind int

const (
	endOfFile tokenKind = iota
	bareWord            // letters, digits and / . _ -; numbers are words too
	quotedString
	bracketed   // [...] around an IPv6 address, text without the brackets
	punctuation // one of { } ; : [ ]
	badToken    // already reported
)

// A token is a piece of the text. Text of a quoted string is what it stands for.
type token struct {
	kind tokenKind
	text string
	pos  Position
	end  Position // just behind the token
}

// is reports whether the token is this punctuation or this unquoted word.
func (t token) is(s string) bool {
	return (t.kind == punctuation || t.kind == bareWord) && t.text == s
}

// isText reports whether the token can be a value.
func (t token) isText() bool { return t.kind == bareWord || t.kind == quotedString }

// show names the token in a message.
func (t token) show() string {
	switch t.kind {
	case endOfFile:
		return "the end of the file"
	case bracketed:
		return "[" + t.text + "]"
	default:
		return `"` + t.text + `"`
	}
}

// A lexer cuts one file into tokens. Keywords are words; their place says what they mean.
type lexer struct {
	text   string
	off    int
	pos    Position
	report *report
}

func newLexer(file, text string, r *report) *lexer {
	return &lexer{text: text, pos: Position{File: file, Line: 1, Column: 1}, report: r}
}

// skipTo moves to a larger offset and keeps line and column right.
func (l *lexer) skipTo(off int) {
	passed := l.text[l.off:off]
	if n := strings.Count(passed, "\n"); n > 0 {
		l.pos.Line += n
		l.pos.Column = 1
		passed = passed[strings.LastIndexByte(passed, '\n')+1:]
	}
	l.pos.Column += utf8.RuneCountInString(passed)
	l.off = off
}

// blank skips white space and comments.
func (l *lexer) blank() {
	off := l.off
	for off < len(l.text) {
		switch l.text[off] {
		case ' ', '\t', '\r', '\n', '\f', '\v':
			off++
		case '#':
			if n := strings.IndexByte(l.text[off:], '\n'); n >= 0 {
				off += n
			} else {
				off = len(l.text)
			}
		default:
			l.skipTo(off)
			return
		}
	}
	l.skipTo(off)
}

// next is the next token; after the last one endOfFile for ever.
func (l *lexer) next() token {
	l.blank()
	t := token{pos: l.pos}
	if l.off == len(l.text) {
		t.end = l.pos
		return t
	}
	switch c := l.text[l.off]; {
	case c == '"':
		l.quoted(&t)
	case wordByte(c):
		l.word(&t)
	case c == '[' && l.address(&t):
	case strings.IndexByte("{};:[]", c) >= 0:
		t.kind, t.text = punctuation, l.text[l.off:l.off+1]
		l.skipTo(l.off + 1)
	default:
		l.stray(&t)
	}
	t.end = l.pos
	return t
}

func wordByte(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || strings.IndexByte("/._-", c) >= 0
}

func (l *lexer) word(t *token) {
	end := l.off
	for end < len(l.text) && wordByte(l.text[end]) {
		end++
	}
	t.kind, t.text = bareWord, l.text[l.off:end]
	if len(t.text) > maxWord {
		l.report.syntax(t.pos, "", "a word of %d characters: %d are allowed", len(t.text), maxWord)
		t.kind, t.text = badToken, t.text[:maxWord]
	}
	l.skipTo(end)
}

// quoted reads a string; a backslash stands for the character behind it.
func (l *lexer) quoted(t *token) {
	t.kind = quotedString
	var text strings.Builder
	end := l.off + 1
	for ; end < len(l.text) && l.text[end] != '"' && l.text[end] != '\n'; end++ {
		if l.text[end] == '\\' && end+1 < len(l.text) && l.text[end+1] != '\n' {
			end++
		}
		if text.Len() <= maxText {
			text.WriteByte(l.text[end])
		}
	}
	t.text = text.String()
	switch {
	case end == len(l.text) || l.text[end] != '"':
		t.kind = badToken
		l.report.syntax(t.pos, `close it with " on the same line`, "this string does not end")
	case !utf8.ValidString(t.text) && len(t.text) <= maxText || strings.IndexByte(t.text, 0) >= 0:
		t.kind = badToken
		l.report.syntax(t.pos, "", "this string is not valid UTF-8 text")
		end++
	case len(t.text) > maxText:
		t.kind = badToken
		l.report.syntax(t.pos, "", "this string is longer than %d bytes", maxText)
		end++
	default:
		end++
	}
	l.skipTo(min(end, len(l.text)))
}

// address reads [IPv6] as one token: its colons are not punctuation. False if this is another bracket.
func (l *lexer) address(t *token) bool {
	rest := l.text[l.off:min(len(l.text), l.off+maxWord)]
	end := strings.IndexByte(rest, ']')
	if end < 0 || strings.Count(rest[:end], ":") < 2 || strings.ContainsAny(rest[:end], "{};\"\n") {
		return false
	}
	t.kind, t.text = bracketed, strings.TrimSpace(rest[1:end])
	l.skipTo(l.off + end + 1)
	return true
}

// stray reports a character that has no place outside of quotes and skips it and its like.
func (l *lexer) stray(t *token) {
	end := l.off
	for end < len(l.text) && !wordByte(l.text[end]) && strings.IndexByte(" \t\r\n\f\v#\"{};:[]", l.text[end]) < 0 {
		end++
	}
	t.kind, t.text = badToken, strings.ToValidUTF8(l.text[l.off:min(end, l.off+16)], "?")
	l.report.syntax(t.pos, "put the whole value in double quotes", "character %q is not allowed here", t.text)
	l.skipTo(end)
}
