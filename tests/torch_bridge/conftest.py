import pathlib
import sys

# The tests' renderers and scorers are imported by name, as a user's modules are.
sys.path.append(str(pathlib.Path(__file__).parent))
