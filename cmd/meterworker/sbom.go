package main

import (
	"cmp"
	"encoding/base64"
	"encoding/hex"
	"runtime/debug"
	"slices"
	"strings"
)

// billOfMaterials is the part of CycloneDX 1.6 that a Go program can say of itself. It
// has neither a time nor a serial number: one program has one bill, byte for byte.
type billOfMaterials struct {
	Format       string           `json:"bomFormat"`
	SpecVersion  string           `json:"specVersion"`
	Version      int              `json:"version"`
	Metadata     bomMetadata      `json:"metadata"`
	Components   []bomComponent   `json:"components"`
	Dependencies []bomDependency  `json:"dependencies"`
	Compositions []bomComposition `json:"compositions"`
}

type bomMetadata struct {
	Component  bomComponent  `json:"component"`
	Properties []bomProperty `json:"properties"`
}

type bomComponent struct {
	Ref        string        `json:"bom-ref"`
	Type       string        `json:"type"`
	Name       string        `json:"name"`
	Version    string        `json:"version"`
	PURL       string        `json:"purl"`
	Licenses   []bomLicense  `json:"licenses,omitempty"`
	Hashes     []bomHash     `json:"hashes,omitempty"`
	Properties []bomProperty `json:"properties,omitempty"`
}

type bomLicense struct {
	License struct {
		ID string `json:"id"`
	} `json:"license"`
}

type bomHash struct {
	Algorithm string `json:"alg"`
	Content   string `json:"content"` // hexadecimal
}

type bomProperty struct {
	Name  string `json:"name"`
	Value string `json:"value"`
}

type bomDependency struct {
	Ref       string   `json:"ref"`
	DependsOn []string `json:"dependsOn"`
}

type bomComposition struct {
	Aggregate  string   `json:"aggregate"`
	Assemblies []string `json:"assemblies"`
}

// newBillOfMaterials lists the modules that were linked into the program, and the
// standard library. Which module needs which is not recorded in a program, so all
// hang on the program itself.
func newBillOfMaterials(info *debug.BuildInfo, v versionInfo) billOfMaterials {
	program := bomComponent{Type: "application", Name: info.Main.Path, Version: v.Version, Licenses: make([]bomLicense, 1)}
	program.Licenses[0].License.ID = "Apache-2.0"
	program.PURL = packageURL(program.Name, program.Version)
	program.Ref = program.PURL
	bill := billOfMaterials{
		Format: "CycloneDX", SpecVersion: "1.6", Version: 1,
		Metadata:   bomMetadata{Component: program, Properties: buildProperties(info, v)},
		Components: []bomComponent{standardLibrary(info.GoVersion)},
	}
	for _, dep := range info.Deps {
		bill.Components = append(bill.Components, linkedModule(dep))
	}
	slices.SortFunc(bill.Components, func(a, b bomComponent) int { return strings.Compare(a.Ref, b.Ref) })
	refs := make([]string, len(bill.Components))
	for i, c := range bill.Components {
		refs[i] = c.Ref
	}
	bill.Dependencies = []bomDependency{{Ref: program.Ref, DependsOn: refs}}
	bill.Compositions = []bomComposition{{Aggregate: "complete", Assemblies: []string{program.Ref}}}
	return bill
}

func standardLibrary(goVersion string) bomComponent {
	c := bomComponent{Type: "library", Name: "std", Version: goVersion, PURL: packageURL("stdlib", strings.TrimPrefix(goVersion, "go"))}
	c.Ref = c.PURL
	return c
}

// linkedModule is the module that is in the program: the replacement, where one was made.
func linkedModule(dep *debug.Module) bomComponent {
	for dep.Replace != nil {
		dep = dep.Replace
	}
	c := bomComponent{Type: "library", Name: dep.Path, Version: dep.Version, PURL: packageURL(dep.Path, dep.Version)}
	c.Ref = c.PURL
	if dep.Sum == "" {
		return c
	}
	c.Properties = []bomProperty{{"go:sum", dep.Sum}} // as go.sum and sum.golang.org have it
	// h1 is a SHA-256, of the list of the module's files.
	if sum, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(dep.Sum, "h1:")); err == nil {
		c.Hashes = []bomHash{{"SHA-256", hex.EncodeToString(sum)}}
	}
	return c
}

// packageURL follows the golang type of the package-url specification.
func packageURL(path, version string) string {
	escape := strings.NewReplacer("%", "%25", "+", "%2B", " ", "%20", "(", "%28", ")", "%29")
	return "pkg:golang/" + strings.ToLower(path) + "@" + escape.Replace(cmp.Or(version, "unknown"))
}

// buildProperties are the settings of the build that change the program; paths and
// times are none of them.
func buildProperties(info *debug.BuildInfo, v versionInfo) []bomProperty {
	properties := []bomProperty{{"go:version", info.GoVersion}}
	for _, s := range info.Settings {
		switch s.Key {
		case "GOOS", "GOARCH", "CGO_ENABLED", "-tags", "-compiler", "-trimpath", "GOAMD64", "GOARM64":
			properties = append(properties, bomProperty{"go:build:" + s.Key, s.Value})
		}
	}
	if v.Revision != "" {
		properties = append(properties, bomProperty{"vcs:revision", v.Revision})
	}
	slices.SortFunc(properties, func(a, b bomProperty) int { return strings.Compare(a.Name, b.Name) })
	return properties
}
