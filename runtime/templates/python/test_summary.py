import unittest

from summary import summary


class SummaryTest(unittest.TestCase):
    def test_the_first_sentence_that_is_no_heading(self):
        self.assertEqual(summary("a.md", "# A\n\nOne. Two."), "a.md: One.")

    def test_an_empty_file(self):
        self.assertEqual(summary("a.md", ""), "a.md: (empty)")


if __name__ == "__main__":
    unittest.main()
