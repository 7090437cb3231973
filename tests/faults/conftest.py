import pytest


@pytest.fixture(scope="session")
def tally():
    class T:
        n = {}

        def add(self, k, v):
            self.n[k] = self.n.get(k, 0) + v

    t = T()
    yield t
    print("TALLY", t.n)
