// istiod for proxies that are the upstream Envoy. Istio's filter for metrics is part of Istio's own
// Envoy alone, and the upstream one refuses every listener that names it. The filter is what the
// extension provider "prometheus" stands for; here that name belongs to a provider that has none.
// The mesh's configuration in the cluster stays as it was installed.
package main

import (
	"bytes"
	"os"
	"slices"
	"time"

	"sigs.k8s.io/yaml"

	"istio.io/istio/pilot/cmd/pilot-discovery/app"
	"istio.io/istio/pkg/log"
)

const (
	installed = "/etc/istio/config/mesh"
	// The only place of istiod's pod, whatever its chart, where everybody may write.
	changed   = "/dev/shm/mesh"
	lookEvery = 200 * time.Millisecond
)

func main() {
	log.EnableKlogWithCobra()
	if slices.Contains(os.Args[1:], "discovery") {
		if mesh, err := os.ReadFile(installed); err == nil {
			write(mesh)
			go follow(mesh)
			os.Args = append(os.Args, "--meshConfig="+changed)
		}
	}
	if err := app.NewRootCommand().Execute(); err != nil {
		log.Error(err)
		os.Exit(1)
	}
}

// follow writes the configuration again when the installed one is another.
func follow(last []byte) {
	for range time.Tick(lookEvery) {
		mesh, err := os.ReadFile(installed)
		if err == nil && !bytes.Equal(mesh, last) {
			write(mesh)
			last = mesh
		}
	}
}

func write(mesh []byte) {
	content := withoutFilter(mesh)
	if err := os.WriteFile(changed+".new", content, 0o600); err != nil {
		log.Fatal(err)
	}
	if err := os.Rename(changed+".new", changed); err != nil {
		log.Fatal(err)
	}
}

// withoutFilter leaves what is no YAML as it is: istiod says what is wrong with it.
func withoutFilter(mesh []byte) []byte {
	fields := map[string]any{}
	if err := yaml.Unmarshal(mesh, &fields); err != nil {
		return mesh
	}
	providers, _ := fields["extensionProviders"].([]any)
	providers = slices.DeleteFunc(providers, func(provider any) bool {
		named, _ := provider.(map[string]any)
		return named["name"] == "prometheus"
	})
	fields["extensionProviders"] = append(providers, map[string]any{
		"name":               "prometheus",
		"envoyFileAccessLog": map[string]any{"path": "/dev/null"},
	})
	content, err := yaml.Marshal(fields)
	if err != nil {
		return mesh
	}
	return content
}
