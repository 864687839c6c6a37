// What runs in pods of the bed's own images, by the variable STAND_IN or the first argument:
//
//	pause                         holds a pod's namespaces and reaps orphans
//	serve                         answers on each of PORTS; asks CALLS, and says what these answered
//	get [flags] URL               sends requests, and prints what came back as JSON
package main

import (
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/signal"
	"strings"
	"sync"
	"syscall"
	"time"
)

// What a tracer needs to know that two requests belong together.
var passedOn = []string{
	"X-Request-Id", "X-B3-Traceid", "X-B3-Spanid", "X-B3-Parentspanid", "X-B3-Sampled",
	"Traceparent", "Tracestate", "End-User",
}

func main() {
	mode, arguments := os.Getenv("STAND_IN"), os.Args[1:]
	if mode == "" || (len(arguments) > 0 && arguments[0] == "get") {
		if len(arguments) == 0 {
			fail("one of pause, serve or get")
		}
		mode, arguments = arguments[0], arguments[1:]
	}
	switch mode {
	case "pause":
		pause()
	case "serve":
		serve()
	case "get":
		get(arguments)
	default:
		fail("not one of pause, serve or get: " + mode)
	}
}

func fail(words string) {
	fmt.Fprintln(os.Stderr, "stand-in:", words)
	os.Exit(1)
}

func pause() {
	signals := make(chan os.Signal, 8)
	signal.Notify(signals, syscall.SIGTERM, syscall.SIGINT, syscall.SIGCHLD)
	for received := range signals {
		if received != syscall.SIGCHLD {
			return
		}
		for {
			if pid, err := syscall.Wait4(-1, nil, syscall.WNOHANG, nil); pid <= 0 || err != nil {
				break
			}
		}
	}
}

// --- serve ---------------------------------------------------------------------------------------

type answer struct {
	Name    string              `json:"name"`
	Pod     string              `json:"pod"`
	Path    string              `json:"path"`
	Headers map[string][]string `json:"headers"`
	Calls   map[string]string   `json:"calls,omitempty"`
	// What those who were called said themselves.
	Called []answer `json:"called,omitempty"`
}

func serve() {
	ports := strings.FieldsFunc(os.Getenv("PORTS"), func(r rune) bool { return r == ',' })
	ended := make(chan os.Signal, 1)
	signal.Notify(ended, syscall.SIGTERM, syscall.SIGINT)
	for _, port := range ports {
		go func() { fail(http.ListenAndServe(":"+port, http.HandlerFunc(respond)).Error()) }()
	}
	<-ended
}

// respond tells each request to the pod's log. A path such as /status/500 has that status.
func respond(writer http.ResponseWriter, request *http.Request) {
	if request.URL.Path == "/metrics" {
		// Pods that are scraped are asked by their agents, which is no traffic of the mesh.
		return
	}
	fmt.Println(request.Method, request.Host, request.URL.Path)
	pod, _ := os.Hostname()
	told := answer{
		Name: os.Getenv("NAME"), Pod: pod, Path: request.URL.Path, Headers: request.Header,
	}
	if calls := strings.Fields(os.Getenv("CALLS")); len(calls) > 0 {
		told.Calls, told.Called = ask(calls, request)
	}
	writer.Header().Set("Content-Type", "application/json")
	var status int
	if _, err := fmt.Sscanf(request.URL.Path, "/status/%d", &status); err == nil && status >= 200 {
		writer.WriteHeader(status)
	}
	_ = json.NewEncoder(writer).Encode(told)
}

// ask sends one request to each address at the same time; what failed is told like a status.
func ask(calls []string, cause *http.Request) (map[string]string, []answer) {
	var lock sync.Mutex
	var group sync.WaitGroup
	found, said := map[string]string{}, []answer{}
	for _, url := range calls {
		group.Go(func() {
			status, content := statusOf(url, cause)
			lock.Lock()
			defer lock.Unlock()
			found[url] = status
			var told answer
			if json.Unmarshal(content, &told) == nil && told.Name != "" {
				said = append(said, told)
			}
		})
	}
	group.Wait()
	return found, said
}

func statusOf(url string, cause *http.Request) (status string, content []byte) {
	request, err := http.NewRequestWithContext(cause.Context(), http.MethodGet, url, nil)
	if err != nil {
		return err.Error(), nil
	}
	for _, name := range passedOn {
		if value := cause.Header.Get(name); value != "" {
			request.Header.Set(name, value)
		}
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return err.Error(), nil
	}
	defer response.Body.Close()
	content, _ = io.ReadAll(response.Body)
	return response.Status, content
}

// --- get -----------------------------------------------------------------------------------------

type headers map[string]string

func (h headers) String() string { return "" }

func (h headers) Set(text string) error {
	name, value, found := strings.Cut(text, ":")
	if !found {
		return fmt.Errorf("no colon in the header %q", text)
	}
	h[name] = strings.TrimSpace(value)
	return nil
}

type outcome struct {
	// By status and the answering program's name: "200 reviews-v1".
	Answers map[string]int `json:"answers"`
	// When each of these came first, in seconds since 1970.
	First map[string]float64 `json:"first"`
	// Requests that were answered, by who sent them ("" is this program) and who answered.
	Edges        map[string]int `json:"edges"`
	Milliseconds []float64      `json:"milliseconds"`
	// From the first request to the last answer.
	Seconds float64 `json:"seconds"`
	// Of the last answer.
	Body string `json:"body"`
}

func (o *outcome) add(key, body string, spent time.Duration) {
	if _, found := o.First[key]; !found {
		o.First[key] = float64(time.Now().UnixMicro()) / 1e6
	}
	o.Answers[key]++
	o.Body = body
	o.Milliseconds = append(o.Milliseconds, float64(spent.Microseconds())/1000)
	var told answer
	if json.Unmarshal([]byte(body), &told) == nil && told.Name != "" {
		o.addEdges("", told)
	}
}

func (o *outcome) addEdges(source string, told answer) {
	o.Edges[source+" "+told.Name]++
	for _, called := range told.Called {
		o.addEdges(told.Name, called)
	}
}

func get(arguments []string) {
	flags := flag.NewFlagSet("get", flag.ExitOnError)
	count := flags.Int("n", 1, "requests")
	most := flags.Int("c", 1, "requests at the same time")
	every := flags.Duration("every", 0, "from one request's start to the next one's; late ones hurry")
	timeout := flags.Duration("timeout", 10*time.Second, "for each request")
	host := flags.String("host", "", "the Host header, if not the address'")
	sent := headers{}
	flags.Var(sent, "H", "a header, name:value; may be repeated")
	_ = flags.Parse(arguments)
	client := &http.Client{Timeout: *timeout}
	found := outcome{Answers: map[string]int{}, First: map[string]float64{}, Edges: map[string]int{}}
	var lock sync.Mutex
	var group sync.WaitGroup
	starts := make(chan time.Time)
	for range *most {
		group.Go(func() {
			for start := range starts {
				time.Sleep(time.Until(start))
				started := time.Now()
				key, body := once(client, flags.Arg(0), *host, sent)
				lock.Lock()
				found.add(key, body, time.Since(started))
				lock.Unlock()
			}
		})
	}
	began := time.Now()
	for number := range *count {
		starts <- began.Add(time.Duration(number) * *every)
	}
	close(starts)
	group.Wait()
	found.Seconds = time.Since(began).Seconds()
	_ = json.NewEncoder(os.Stdout).Encode(found)
}

func once(client *http.Client, url, host string, sent headers) (key, body string) {
	request, err := http.NewRequest(http.MethodGet, url, nil)
	if err != nil {
		fail(err.Error())
	}
	for name, value := range sent {
		request.Header.Set(name, value)
	}
	request.Host = host
	response, err := client.Do(request)
	if err != nil {
		return "error: " + err.Error(), ""
	}
	defer response.Body.Close()
	content, err := io.ReadAll(response.Body)
	if err != nil {
		return "error: " + err.Error(), ""
	}
	var told answer
	if json.Unmarshal(content, &told) == nil && told.Name != "" {
		return fmt.Sprintf("%d %s", response.StatusCode, told.Name), string(content)
	}
	return fmt.Sprint(response.StatusCode), string(content)
}
