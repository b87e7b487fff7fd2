import pathlib
import sys

# The tests' own renderer and model code, imported by name as a user's would be.
sys.path.append(str(pathlib.Path(__file__).parent))
