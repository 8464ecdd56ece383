"""Charts of the report as SVG: the value under the pointer is shown above the chart."""
