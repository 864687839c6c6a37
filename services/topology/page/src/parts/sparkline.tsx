// A small curve without axes, beside the number that it ends at.

export function Sparkline({ values, label, tone = "info" }: {
  values: readonly number[]; label: string; tone?: "info" | "bad";
}) {
  const width = 120, height = 28;
  if (values.length < 2) return <span class="spark" aria-hidden="true" />;
  const most = Math.max(...values, Number.MIN_VALUE);
  const points = values.map((value, index) =>
    `${(index / (values.length - 1) * width).toFixed(1)},${(height - 2 - value / most * (height - 4)).toFixed(1)}`);
  return (
    <svg class="spark" data-tone={tone} role="img" aria-label={label} viewBox={`0 0 ${width} ${height}`}
      preserveAspectRatio="none">
      <polyline points={points.join(" ")} />
    </svg>
  );
}
