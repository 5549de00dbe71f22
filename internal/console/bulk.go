package console

import (
	"context"
	"net/http"
)

// Bounds of how many letters a second a run takes; they share the account's permits with
// new usage.
const (
	presetRate = 100
	mostRate   = 10_000
)

type bulkView struct {
	Kind     Kind
	Problem  string
	Filters  []Field
	Forecast *Forecast
	Action   string // where the form goes: with the filter, and what was counted
	Back     string
}

// bulkPage says what would be done to all that match.
func (p *Pages) bulkPage(kind Kind) func(http.ResponseWriter, *http.Request, visitor) {
	return func(w http.ResponseWriter, r *http.Request, v visitor) {
		filter := filterOf(r.Form)
		query, err := p.operator.Resolve(filter.query())
		if err != nil {
			p.fail(w, r, v, http.StatusBadRequest, err.Error())
			return
		}
		var forecast *Forecast
		err = p.reading(w, r, func(ctx context.Context) (err error) {
			forecast, err = p.operator.Foresee(ctx, Deed{Kind: kind, Query: query})
			return err
		})
		if err != nil {
			p.failed(w, r, v, err)
			return
		}
		fixed := filter.resolved(query)
		view := bulkView{
			Kind: kind, Filters: fixed.pairs(), Forecast: forecast, Back: filter.address("/dead-letters"),
			Action: fixed.address("/dead-letters/"+string(kind), Field{"count", decimal(uint64(forecast.Count))}, Field{"through", decimal(forecast.Last)}),
		}
		title := map[Kind]string{Replay: "Replay dead letters?", Discard: "Discard dead letters?"}[kind]
		p.show(w, r, v, http.StatusOK, "bulk", page{Title: title, Nav: "dead-letters", Data: view})
	}
}

// bulk does it, to what was counted: letters that died since are left.
func (p *Pages) bulk(kind Kind) func(http.ResponseWriter, *http.Request, visitor) {
	return func(w http.ResponseWriter, r *http.Request, v visitor) {
		deed, refusal := deedOf(kind, r, v)
		query, err := p.operator.Resolve(filterOf(r.Form).query())
		count, countOK := number(r.Form.Get("count"))
		through, throughOK := number(r.Form.Get("through"))
		rate, rateOK := number(r.PostForm.Get("rate"))
		switch {
		case refusal != "":
		case err != nil:
			refusal = err.Error()
		case !countOK || !throughOK || count == 0 || through == 0 || count > 1<<31:
			refusal = "count and through are missing: open the page first, which says what would be done"
		case !rateOK || rate > mostRate:
			refusal = "rate is a whole number from 1 to 10000"
		}
		if refusal != "" {
			p.fail(w, r, v, http.StatusBadRequest, refusal)
			return
		}
		query.Through, query.Limit = through, int(count)
		deed.Query, deed.Hopeless, deed.Rate = query, r.PostForm.Get("hopeless") == "true", presetRate
		if rate > 0 {
			deed.Rate = int(rate)
		}
		if deed.Hopeless {
			deed.Asked = append(deed.Asked, "hopeless")
		}
		p.begin(w, r, v, deed)
	}
}
