"""Checks of what extends the proxies: EnvoyFilters, WasmPlugins and TrafficExtensions."""
