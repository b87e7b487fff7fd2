"""ComfyUI nodes that rewrite a short query into a prompt for a video model."""

from . import in_process_node, server_node

NODE_CLASS_MAPPINGS = {
  "VPOOptimizeServer": server_node.OptimizeServer,
  "VPOOptimizeInProcess": in_process_node.OptimizeInProcess,
}
NODE_DISPLAY_NAME_MAPPINGS = {
  "VPOOptimizeServer": "Optimize Prompt (VPO server)",
  "VPOOptimizeInProcess": "Optimize Prompt (VPO in process)",
}
