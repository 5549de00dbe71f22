package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"unicode"
	"unicode/utf16"
	"unicode/utf8"
)

// visible reports whether a terminal shows r and does nothing else: no control
// characters, of which U+009B alone begins an escape code, and no bidirectional
// overrides, which make a line read differently from what it says.
func visible(r rune) bool { return unicode.IsPrint(r) }

// escapeText writes what is not visible as \x1b, \u202e and the like, in one line.
func escapeText(text string) string {
	var b strings.Builder
	for i := 0; i < len(text); {
		r, size := utf8.DecodeRuneInString(text[i:])
		switch {
		case r == utf8.RuneError && size == 1, r < utf8.RuneSelf && !visible(r):
			fmt.Fprintf(&b, `\x%02x`, text[i])
		case !visible(r) && r > 0xffff:
			fmt.Fprintf(&b, `\U%08x`, r)
		case !visible(r):
			fmt.Fprintf(&b, `\u%04x`, r)
		default:
			b.WriteRune(r)
		}
		i += size
	}
	return b.String()
}

// escapeLines is escapeText for a text of several lines.
func escapeLines(text string) string {
	lines := strings.Split(text, "\n")
	for i, line := range lines {
		lines[i] = escapeText(line)
	}
	return strings.Join(lines, "\n")
}

// cell is a text for a table: one line, at most width characters, never empty.
func cell(text string, width int) string {
	text = escapeText(text)
	if text == "" {
		return "-"
	}
	if utf8.RuneCountInString(text) > width {
		return string([]rune(text)[:width-1]) + "…"
	}
	return text
}

// escapeJSON writes what is not visible as \u escapes, which mean the same inside
// JSON strings, and outside of them nothing but line breaks stands.
func escapeJSON(document []byte) []byte {
	if !bytes.ContainsFunc(document, func(r rune) bool { return !visible(r) && r != '\n' }) {
		return document
	}
	escaped := make([]byte, 0, len(document)+64)
	for _, r := range string(document) {
		switch {
		case visible(r) || r == '\n':
			escaped = utf8.AppendRune(escaped, r)
		case r > 0xffff:
			high, low := utf16.EncodeRune(r)
			escaped = fmt.Appendf(escaped, `\u%04x\u%04x`, high, low)
		default:
			escaped = fmt.Appendf(escaped, `\u%04x`, r)
		}
	}
	return escaped
}

// writeJSONLine writes one object as one line that is safe on a terminal.
func writeJSONLine(w io.Writer, v any) error {
	var b bytes.Buffer
	encoder := json.NewEncoder(&b)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(v); err != nil {
		return err
	}
	_, err := w.Write(escapeJSON(b.Bytes()))
	return err
}
