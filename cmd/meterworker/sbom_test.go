package main

import (
	"bytes"
	"encoding/json"
	"regexp"
	"runtime/debug"
	"slices"
	"testing"
)

var (
	purlForm = regexp.MustCompile(`^pkg:golang/[a-z0-9./_~-]+@[A-Za-z0-9.%_-]+$`)
	sha256   = regexp.MustCompile(`^[0-9a-f]{64}$`)
)

// This program's own bill holds exactly the modules that the toolchain recorded in it.
func TestBillOfMaterials(t *testing.T) {
	info, ok := debug.ReadBuildInfo()
	if !ok || len(info.Deps) < 10 {
		t.Fatalf("the toolchain recorded %d modules", len(info.Deps))
	}
	code, stdout, stderr := runCommand(t, nil, "version", "--sbom")
	var bill billOfMaterials
	decoder := json.NewDecoder(bytes.NewReader([]byte(stdout)))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&bill); err != nil || code != 0 {
		t.Fatalf("exit %d, %v, %s", code, err, stderr)
	}
	if bill.Format != "CycloneDX" || bill.SpecVersion != "1.6" || bill.Version != 1 || bill.Metadata.Component.Name != info.Main.Path {
		t.Errorf("head %+v", bill)
	}
	sums := map[string]string{"std " + info.GoVersion: ""}
	for _, dep := range info.Deps {
		sums[dep.Path+" "+dep.Version] = dep.Sum
	}
	for _, c := range bill.Components {
		name := c.Name + " " + c.Version
		sum, known := sums[name]
		delete(sums, name)
		if !known || (sum != "" && !slices.Contains(c.Properties, bomProperty{"go:sum", sum})) {
			t.Errorf("%s with %v is not what the toolchain recorded: %q", name, c.Properties, sum)
		}
		wantComponent(t, c, sum != "")
	}
	if len(sums) > 0 {
		t.Errorf("the bill lacks %v", sums)
	}
	if len(bill.Dependencies) != 1 || len(bill.Dependencies[0].DependsOn) != len(bill.Components) {
		t.Errorf("dependencies %+v", bill.Dependencies)
	}
}

func wantComponent(t *testing.T, c bomComponent, hashed bool) {
	t.Helper()
	if c.Ref != c.PURL || !purlForm.MatchString(c.PURL) || c.Type != "library" {
		t.Errorf("component %+v", c)
	}
	if (len(c.Hashes) == 1) != hashed || (hashed && (c.Hashes[0].Algorithm != "SHA-256" || !sha256.MatchString(c.Hashes[0].Content))) {
		t.Errorf("hashes of %s: %+v", c.Name, c.Hashes)
	}
}

// One program has one bill: sorted, without a time, with the replacement of a module in
// its place.
func TestBillOfMaterialsIsDeterministic(t *testing.T) {
	const sum = "h1:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="
	info := &debug.BuildInfo{
		GoVersion: "go1.26.8",
		Main:      debug.Module{Path: "example.com/Main", Version: "(devel)"},
		Deps: []*debug.Module{
			{Path: "example.com/b", Version: "v2.0.0+incompatible", Sum: sum},
			{Path: "example.com/a", Version: "v1.0.0", Replace: &debug.Module{Path: "example.com/fork", Version: "v1.0.1", Sum: sum}},
		},
		Settings: []debug.BuildSetting{{Key: "GOOS", Value: "linux"}, {Key: "CGO_ENABLED", Value: "0"}, {Key: "vcs.time", Value: "2026-01-02T03:04:05Z"}},
	}
	v := versionInfo{Version: "v1.2.3-dirty", Revision: "abc"}
	first, err := json.Marshal(newBillOfMaterials(info, v))
	if err != nil {
		t.Fatal(err)
	}
	slices.Reverse(info.Deps)
	slices.Reverse(info.Settings)
	second, err := json.Marshal(newBillOfMaterials(info, v))
	if err != nil || !bytes.Equal(first, second) {
		t.Errorf("%v\n%s\n%s", err, first, second)
	}
	containsAll(t, string(first), []string{
		`"purl":"pkg:golang/example.com/main@v1.2.3-dirty"`, `"purl":"pkg:golang/example.com/b@v2.0.0%2Bincompatible"`,
		`"purl":"pkg:golang/example.com/fork@v1.0.1"`, `"purl":"pkg:golang/stdlib@1.26.8"`,
		`{"name":"vcs:revision","value":"abc"}`, `{"name":"go:build:GOOS","value":"linux"}`,
		`"hashes":[{"alg":"SHA-256","content":"0000000000000000000000000000000000000000000000000000000000000000"}]`,
	})
	if bytes.Contains(first, []byte("2026")) || bytes.Contains(first, []byte("example.com/a@")) {
		t.Errorf("a time or a replaced module in %s", first)
	}
}
