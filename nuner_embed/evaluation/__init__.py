"""The paper's protocol: metrics, repeated draws, tables and figures."""
