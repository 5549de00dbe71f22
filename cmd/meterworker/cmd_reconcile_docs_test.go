package main

import (
	"maps"
	"os"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/meterworker/meterworker/internal/reconcile"
)

// docs/reconcile.md lists every field of every line, every kind and every verdict, and no other.
func TestReconcileIsDocumented(t *testing.T) {
	page, err := os.ReadFile("../../docs/reconcile.md")
	if err != nil {
		t.Fatal(err)
	}
	_, kinds, _ := strings.Cut(string(page), "## What explains a difference")
	kinds, fields, _ := strings.Cut(kinds, "## Fields")
	want := map[string]bool{}
	for _, object := range []any{differenceObject{}, candidateObject{}, settlementObject{}, summaryObject{}} {
		for field := range reflect.TypeOf(object).Fields() {
			want[field.Tag.Get("json")] = true
		}
	}
	if got, want := firstCells(fields), slices.Sorted(maps.Keys(want)); !slices.Equal(got, want) {
		t.Errorf("documented fields %v, want %v", got, want)
	}
	want = map[string]bool{}
	for _, k := range reconcile.Kinds() {
		want[string(k)] = true
	}
	if got, want := firstCells(kinds), slices.Sorted(maps.Keys(want)); !slices.Equal(got, want) {
		t.Errorf("documented kinds %v, want %v", got, want)
	}
	for _, v := range reconcile.Verdicts() {
		if !strings.Contains(fields, "`"+string(v)+"`") {
			t.Errorf("verdict %s is not documented", v)
		}
	}
}

// firstCells are the names in the first column of a page's tables, sorted, each once.
func firstCells(text string) []string {
	names := map[string]bool{}
	for line := range strings.Lines(text) {
		if cells := strings.Split(line, "|"); len(cells) > 2 {
			for _, name := range regexp.MustCompile("`([a-z_]+)`").FindAllStringSubmatch(cells[1], -1) {
				names[name[1]] = true
			}
		}
	}
	return slices.Sorted(maps.Keys(names))
}

// Requests to Stripe are spread: never more than the rate in any second.
func TestReadPace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		rate := newReadPace(25)
		began := time.Now()
		for range 101 {
			if err := rate.wait(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		if took := time.Since(began); took < 4*time.Second || took > 4*time.Second+time.Millisecond {
			t.Errorf("101 requests in %s, want 4s", took)
		}
	})
}
