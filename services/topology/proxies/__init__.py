"""How proxies stand with their control plane: what istiod and the proxies' agents tell of it."""
