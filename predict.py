"""Find the faces in pictures and videos and name the expression that each shows.

    python predict.py photo.jpg holiday/ "*.png" https://example.org/face.jpg
    python predict.py holiday/ clip.mp4 --annotate out --csv out.csv
    python predict.py --webcam                      (q quits, s saves a screenshot)

After `pip install .` the command `expression` does the same.
"""

import sys

from expression.cli import main

if __name__ == "__main__":
    sys.exit(main())
