// The console. Everything that it shows comes by one event stream and the service API.

import { render } from "preact";
import { App } from "./shell/app";
import { go } from "./shell/router";

// Addresses of the graph from when it was all there was.
if (location.pathname === "/" && new URLSearchParams(location.search).has("cluster")) {
  go(`/graph${location.search}`, { replace: true });
}
render(<App />, document.getElementById("console")!);
