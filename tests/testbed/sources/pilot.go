// istiod for proxies that are the upstream Envoy. Istio's filter for metrics is part of Istio's own
// Envoy alone, and the upstream one refuses every listener that names it. The filter is what the
// extension provider "prometheus" stands for; here that name belongs to a provider that has none.
// istiod reads the mesh's configuration from a file, if there is one, instead of the ConfigMap. So
// the ConfigMap stays as it was installed, and the file follows it.
package main

import (
	"context"
	"os"
	"slices"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/yaml"

	"istio.io/istio/pilot/cmd/pilot-discovery/app"
	"istio.io/istio/pkg/log"
)

const (
	// The only place of istiod's pod, whatever its chart, where everybody may write.
	file      = "/dev/shm/mesh"
	lookEvery = 500 * time.Millisecond
)

func main() {
	log.EnableKlogWithCobra()
	if slices.Contains(os.Args[1:], "discovery") {
		config, err := rest.InClusterConfig()
		if err != nil {
			log.Fatal(err)
		}
		follow(kubernetes.NewForConfigOrDie(config))
		os.Args = append(os.Args, "--meshConfig="+file)
	}
	if err := app.NewRootCommand().Execute(); err != nil {
		log.Error(err)
		os.Exit(1)
	}
}

// follow writes the file, and then again whenever the ConfigMap is another.
func follow(client kubernetes.Interface) {
	last := installed(client)
	write(last)
	go func() {
		for range time.Tick(lookEvery) {
			if mesh := installed(client); mesh != last {
				write(mesh)
				last = mesh
			}
		}
	}()
}

// installed waits for an API server that is away: without it istiod could do nothing either.
func installed(client kubernetes.Interface) string {
	name := "istio"
	if revision := os.Getenv("REVISION"); revision != "" && revision != "default" {
		name += "-" + revision
	}
	maps := client.CoreV1().ConfigMaps(os.Getenv("POD_NAMESPACE"))
	for {
		found, err := maps.Get(context.Background(), name, metav1.GetOptions{})
		if err == nil {
			return found.Data["mesh"]
		}
		log.Warnf("the ConfigMap %s cannot be read: %v", name, err)
		time.Sleep(lookEvery)
	}
}

func write(mesh string) {
	if err := os.WriteFile(file+".new", withoutFilter(mesh), 0o600); err != nil {
		log.Fatal(err)
	}
	if err := os.Rename(file+".new", file); err != nil {
		log.Fatal(err)
	}
}

// withoutFilter leaves what is no YAML as it is: istiod says what is wrong with it.
func withoutFilter(mesh string) []byte {
	fields := map[string]any{}
	if err := yaml.Unmarshal([]byte(mesh), &fields); err != nil {
		return []byte(mesh)
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
		return []byte(mesh)
	}
	return content
}
