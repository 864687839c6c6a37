"""The care for what reaches into the proxies: EnvoyFilters, WasmPlugins, TrafficExtensions."""
