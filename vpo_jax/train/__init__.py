"""SFT and DPO by one step function over packed forests."""
