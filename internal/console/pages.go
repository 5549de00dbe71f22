package console

import (
	"context"
	"html/template"
	"net/http"
	"slices"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"
)

// PagesConfig is what page and API are made of.
type PagesConfig struct {
	Operator Operator
	Access   Access
	// Registry holds the metrics of this process, for the plots.
	Registry prometheus.Gatherer
	// Logger receives failed answers; nil drops them.
	Logger *zap.Logger
}

// Pages are the page and the API of the console. [Pages.Run] keeps them alive.
type Pages struct {
	operator  Operator
	access    Access
	log       *zap.Logger
	sessions  *sessions
	hub       *hub
	runs      *runs
	assets    map[string]asset
	templates map[string]*template.Template
	reads     chan struct{} // see reading
}

// readsAtOnce bounds the requests that read letters or records beside each other: each has a
// connection and a reader at the server.
const readsAtOnce = 4

// NewPages prepares the pages. The error is one of the program's own files.
func NewPages(cfg PagesConfig) (*Pages, error) {
	if cfg.Logger == nil {
		cfg.Logger = zap.NewNop()
	}
	p := &Pages{
		operator: cfg.Operator, access: cfg.Access, log: cfg.Logger, sessions: newSessions(),
		hub: newHub(cfg.Operator, cfg.Registry), runs: newRuns(cfg.Operator), reads: make(chan struct{}, readsAtOnce),
	}
	var err error
	if p.assets, err = assets(); err != nil {
		return nil, err
	}
	if p.templates, err = templatesOf(p.link); err != nil {
		return nil, err
	}
	return p, nil
}

// Run takes samples for the plots and lets people change things, until ctx ends. It returns
// when what was begun by hand has stopped, each after the letter in hand.
func (p *Pages) Run(ctx context.Context) {
	p.runs.open(ctx)
	p.hub.run(ctx)
	p.runs.wait()
}

// routes is every address, once.
func (p *Pages) routes() []route {
	return []route{
		{"GET /static/{file}", nothing, p.static},
		{"GET /login", nothing, p.loginPage},
		{"POST /login", nothing, p.login},
		{"POST /logout", nothing, p.logout},

		{"GET /{$}", toLook, p.overview},
		{"GET /api/status", toLook, p.apiStatus},
		{"GET /api/events", toLook, p.events},
		{"GET /api/series", toLook, p.series},

		{"GET /dead-letters", toLook, p.letters},
		{"GET /dead-letters/{id}", toLook, p.letter},
		{"GET /api/dead-letters", toLook, p.apiLetters},
		{"GET /api/dead-letters/groups", toLook, p.apiGroups},
		{"GET /api/dead-letters/{id}", toLook, p.apiLetter},
		{"GET /runs/{id}", toLook, p.run},
		{"GET /api/runs/{id}", toLook, p.apiRun},
		{"GET /audit", toLook, p.audit},
		{"GET /api/audit", toLook, p.apiAudit},

		{"GET /dead-letters/{id}/edit", toChange, p.editPage},
		{"GET /dead-letters/replay", toChange, p.bulkPage(Replay)},
		{"GET /dead-letters/discard", toChange, p.bulkPage(Discard)},
		{"POST /dead-letters/{id}/edit", toChange, p.edit},
		{"POST /dead-letters/{id}/replay", toChange, p.one(Replay)},
		{"POST /dead-letters/{id}/discard", toChange, p.one(Discard)},
		{"POST /dead-letters/replay", toChange, p.bulk(Replay)},
		{"POST /dead-letters/discard", toChange, p.bulk(Discard)},
		{"POST /runs/{id}/stop", toChange, p.stop},
		{"POST /pause", toChange, p.pause},
		{"POST /resume", toChange, p.resume},
	}
}

// register adds the routes, where there is anybody who may use them.
func (p *Pages) register(mux *http.ServeMux) {
	if !p.access.offered() {
		return
	}
	for _, route := range p.routes() {
		mux.Handle(route.pattern, p.admit(route))
	}
}

// known reports whether a word is on a closed list, or none.
func known(list []string, word string) bool { return word == "" || slices.Contains(list, word) }
