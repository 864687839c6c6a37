// Follows one cluster by Server-Sent Events. The browser connects again by itself and says where it
// was; only an answer that is no stream (a server that is just starting) ends that, and a connection
// that is dead without saying so. Both are mended here.

const SILENCE_MS = 40_000; // The server says something every 15 s.
const FIRST_WAIT_MS = 500;
const LONGEST_WAIT_MS = 10_000;

export class Stream {
  // `on` has a function for each event: snapshot, delta, clusters, gone, state.
  constructor(on) {
    this.on = on;
    this.wait = FIRST_WAIT_MS;
  }

  open(cluster, graphType) {
    this.close();
    this.query = { cluster, graphType };
    this.last = "";
    this.wait = FIRST_WAIT_MS;
    this.connect();
  }

  close() {
    clearTimeout(this.timer);
    this.source?.close();
    this.source = null;
  }

  connect() {
    this.close();
    this.on.state("connecting");
    const query = new URLSearchParams(this.query);
    if (this.last) query.set("after", this.last);
    const source = new EventSource(`/api/events?${query}`);
    this.source = source;
    source.onopen = () => {
      this.wait = FIRST_WAIT_MS;
      this.heard();
      this.on.state("live");
    };
    source.onerror = () => this.failed(source);
    for (const name of ["snapshot", "delta", "clusters", "gone"]) {
      source.addEventListener(name, (event) => {
        this.heard(event);
        this.on[name](JSON.parse(event.data));
      });
    }
    source.addEventListener("ping", (event) => this.heard(event));
    this.watch();
  }

  heard(event) {
    if (event?.lastEventId) this.last = event.lastEventId;
    this.watch();
  }

  watch() {
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.connect(), SILENCE_MS);
  }

  failed(source) {
    this.on.state("broken");
    if (source.readyState !== EventSource.CLOSED) return;
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.connect(), this.wait);
    this.wait = Math.min(2 * this.wait, LONGEST_WAIT_MS);
  }
}
