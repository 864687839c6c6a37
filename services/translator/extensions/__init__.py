"""Checks of extensions of the proxies: EnvoyFilters, WasmPlugins and TrafficExtensions."""
