package console

import (
	"fmt"
	"strconv"
	"time"
)

// durationText is a time in seconds as people say it.
func durationText(seconds any) string {
	var s float64
	switch v := seconds.(type) {
	case float64:
		s = v
	case *float64:
		s = *v
	}
	d := time.Duration(s * float64(time.Second))
	switch {
	case d < 10*time.Second:
		return strconv.FormatFloat(s, 'f', 1, 64) + " s"
	case d < 2*time.Minute:
		return fmt.Sprintf("%d s", d/time.Second)
	case d < 2*time.Hour:
		return fmt.Sprintf("%d min", d/time.Minute)
	case d < 48*time.Hour:
		return fmt.Sprintf("%d h %d min", d/time.Hour, d/time.Minute%60)
	default:
		return fmt.Sprintf("%d d %d h", d/(24*time.Hour), d/time.Hour%24)
	}
}

func numberText(n float64) string {
	if n < 10 && n != float64(int64(n)) {
		return strconv.FormatFloat(n, 'f', 1, 64)
	}
	return strconv.FormatFloat(n, 'f', 0, 64)
}

// bytesText takes whatever kind of integer the field is.
func bytesText(n any) string {
	var size float64
	switch v := n.(type) {
	case int64:
		size = float64(v)
	case uint64:
		size = float64(v)
	}
	for _, unit := range []string{"B", "KiB", "MiB", "GiB"} {
		if size < 1024 {
			return numberText(size) + " " + unit
		}
		size /= 1024
	}
	return numberText(size) + " TiB"
}

// whenText is a time of a document, to the second and without a zone but UTC.
func whenText(text string) string {
	t, err := time.Parse(time.RFC3339Nano, text)
	if err != nil {
		return "not known"
	}
	return t.UTC().Format("2006-01-02 15:04:05Z")
}

// agoText is how long ago a time of a document was.
func agoText(text string) string {
	t, err := time.Parse(time.RFC3339Nano, text)
	if err != nil {
		return "not known"
	}
	return durationText(max(time.Since(t).Seconds(), 0)) + " ago"
}

// leftText is how long it is until a time of a document.
func leftText(text string) string {
	t, err := time.Parse(time.RFC3339Nano, text)
	switch left := time.Until(t); {
	case err != nil:
		return "not known"
	case left <= 0:
		return "none"
	default:
		return durationText(left.Seconds())
	}
}

// shortened keeps a row readable; the case file has all of it.
func shortened(text string) string {
	const most = 160
	runes := []rune(text)
	if len(runes) <= most {
		return text
	}
	return string(runes[:most-1]) + "…"
}
