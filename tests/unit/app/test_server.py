"""The server has its model in memory before the first scan comes."""

from page_parts import server


class Calls:
    """Something of which every method does nothing, and is written down."""

    def __init__(self, name, made):
        self.name, self.made = name, made

    def __getattr__(self, method):
        return lambda *_, **__: self.made.append(f"{self.name}.{method}")


def test_children_load_the_model_before_a_page_is_served(monkeypatch):
    made = []

    def get_service():
        made.append("service")
        return Calls("service", made)

    monkeypatch.setattr(server, "get_service", get_service)
    monkeypatch.setattr(server, "get_champion", lambda: Calls("champion", made))
    monkeypatch.setattr(server, "build_app", lambda _: Calls("app", made))
    monkeypatch.setattr(server, "let_go_of_memory", lambda: None)
    server.serve("127.0.0.1", 0, [])
    assert made == ["champion.start", "service", "app.run", "service.close"]
