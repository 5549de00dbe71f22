package console

import (
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"fmt"
	"io/fs"
	"net/http"
	"path"
	"strconv"
)

//go:embed web/templates/*.html
var templateFiles embed.FS

//go:embed web/static
var staticFiles embed.FS

// asset is one static file.
type asset struct {
	content []byte
	kind    string // Content-Type
	hash    string // of the content
}

// assets are the static files by name; folders are not served.
func assets() (map[string]asset, error) {
	files, err := fs.Sub(staticFiles, "web/static")
	if err != nil {
		return nil, fmt.Errorf("static files: %w", err)
	}
	found := map[string]asset{}
	entries, err := fs.ReadDir(files, ".")
	if err != nil {
		return nil, fmt.Errorf("static files: %w", err)
	}
	for _, entry := range entries {
		if entry.IsDir() {
			continue
		}
		content, err := fs.ReadFile(files, entry.Name())
		if err != nil {
			return nil, fmt.Errorf("static files: %w", err)
		}
		sum := sha256.Sum256(content)
		found[entry.Name()] = asset{content, kindOf(entry.Name()), hex.EncodeToString(sum[:8])}
	}
	return found, nil
}

// kindOf does not ask the host, whose tables differ.
func kindOf(name string) string {
	switch path.Ext(name) {
	case ".js":
		return "text/javascript; charset=utf-8"
	case ".css":
		return "text/css; charset=utf-8"
	case ".svg":
		return "image/svg+xml"
	default:
		return "text/plain; charset=utf-8"
	}
}

// link is the address of a static file, which changes with its content.
func (p *Pages) link(name string) string {
	return "/static/" + name + "?v=" + p.assets[name].hash
}

// static serves a file; a page of another version asks for another hash, and must not have
// this one for ever.
func (p *Pages) static(w http.ResponseWriter, r *http.Request, _ visitor) {
	a, found := p.assets[r.PathValue("file")]
	if !found {
		http.NotFound(w, r)
		return
	}
	h := w.Header()
	h.Set("Content-Type", a.kind)
	h.Set("ETag", `"`+a.hash+`"`)
	h.Set("Cache-Control", "no-cache")
	if r.URL.Query().Get("v") == a.hash {
		h.Set("Cache-Control", "public, max-age=31536000, immutable")
	}
	if r.Header.Get("If-None-Match") == `"`+a.hash+`"` {
		w.WriteHeader(http.StatusNotModified)
		return
	}
	h.Set("Content-Length", strconv.Itoa(len(a.content)))
	_, _ = w.Write(a.content) // as in livez
}
