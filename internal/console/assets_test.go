package console

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"io/fs"
	"os"
	"path"
	"slices"
	"strings"
	"testing"
)

// assetManifest is what `make assets` writes beside the files that it took from others.
type assetManifest struct {
	Files []struct {
		File          string `json:"file"`
		Package       string `json:"package"`
		Version       string `json:"version"`
		Source        string `json:"source"`
		SHA256        string `json:"sha256"`
		Licence       string `json:"licence"`
		LicenceFile   string `json:"licence_file"`
		LicenceSHA256 string `json:"licence_sha256"`
	} `json:"files"`
}

// Files of ours in the folder, which no manifest lists.
var ownAssets = []string{
	"app.css", "app.js", "favicon.svg", "live.js", "plots.js", "theme.js", "manifest.json",
}

// embedded is the folder as the binary has it, licences included.
func embedded(t *testing.T) fs.FS {
	t.Helper()
	static, err := fs.Sub(staticFiles, "web/static")
	if err != nil {
		t.Fatal(err)
	}
	return static
}

func readJSON(t *testing.T, files fs.FS, name string, into any) {
	t.Helper()
	content, err := fs.ReadFile(files, name)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(content, into); err != nil {
		t.Fatalf("%s: %v", name, err)
	}
}

func assetSum(t *testing.T, files fs.FS, name string) string {
	t.Helper()
	content, err := fs.ReadFile(files, name)
	if err != nil {
		t.Errorf("the manifest lists %s: %v", name, err)
		return ""
	}
	sum := sha256.Sum256(content)
	return hex.EncodeToString(sum[:])
}

func TestEveryForeignAssetIsWhatTheManifestSays(t *testing.T) {
	static := embedded(t)
	var manifest assetManifest
	readJSON(t, static, "manifest.json", &manifest)
	listed := slices.Clone(ownAssets)
	for _, one := range manifest.Files {
		if one.Licence == "" || one.Source == "" || one.Package == "" || one.Version == "" {
			t.Errorf("%s does not say where it comes from, or under which licence: %+v", one.File, one)
		}
		if sum := assetSum(t, static, one.File); sum != one.SHA256 {
			t.Errorf("%s is %s, the manifest says %s: run `make assets`", one.File, sum, one.SHA256)
		}
		if sum := assetSum(t, static, one.LicenceFile); sum != one.LicenceSHA256 {
			t.Errorf("%s is %s, the manifest says %s: run `make assets`", one.LicenceFile, sum, one.LicenceSHA256)
		}
		listed = append(listed, one.File, one.LicenceFile)
	}
	err := fs.WalkDir(static, ".", func(name string, entry fs.DirEntry, err error) error {
		if err == nil && !entry.IsDir() && !slices.Contains(listed, name) {
			t.Errorf("%s is neither ours nor in the manifest", name)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

func TestTheManifestAgreesWithTheLockFile(t *testing.T) {
	var wanted struct {
		Dependencies map[string]string `json:"dependencies"`
	}
	var lock struct {
		Packages map[string]struct {
			Version   string `json:"version"`
			Integrity string `json:"integrity"`
			Licence   string `json:"license"`
		} `json:"packages"`
	}
	var manifest assetManifest
	readJSON(t, os.DirFS("web/assets"), "package.json", &wanted)
	readJSON(t, os.DirFS("web/assets"), "package-lock.json", &lock)
	readJSON(t, embedded(t), "manifest.json", &manifest)
	used := map[string]bool{}
	for _, one := range manifest.Files {
		used[one.Package] = true
		locked := lock.Packages[path.Join("node_modules", one.Package)]
		if locked.Version != one.Version || wanted.Dependencies[one.Package] != one.Version {
			t.Errorf("%s: the manifest has %s of %s, package-lock.json %s, package.json %s",
				one.File, one.Version, one.Package, locked.Version, wanted.Dependencies[one.Package])
		}
		if locked.Licence != one.Licence || !strings.HasPrefix(locked.Integrity, "sha512-") {
			t.Errorf("%s: the lock file has licence %q and integrity %q", one.Package, locked.Licence, locked.Integrity)
		}
	}
	for name := range lock.Packages {
		if name != "" && !used[strings.TrimPrefix(name, "node_modules/")] {
			t.Errorf("the lock file has %s, of which nothing is taken", name)
		}
	}
}

// A lock file that names a registry works only where that one is reached.
func TestTheLockFileNamesNoRegistry(t *testing.T) {
	content, err := os.ReadFile("web/assets/package-lock.json")
	if err != nil {
		t.Fatal(err)
	}
	for _, hint := range []string{`"resolved"`, "http:", "https:"} {
		if strings.Contains(string(content), hint) {
			t.Errorf("package-lock.json holds %s: make it again with the .npmrc beside it", hint)
		}
	}
}
