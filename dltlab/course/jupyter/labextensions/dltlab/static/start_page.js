// Shows the start page, which dltlab/start_page.py writes, as a tab of JupyterLab.
(() => {
  const REFRESH_MILLISECONDS = 2000;
  const scriptUrl = document.currentScript.src;
  let sharedModules;

  const style = document.createElement("link");
  style.rel = "stylesheet";
  style.href = new URL("start_page.css", scriptUrl);
  document.head.append(style);

  // Return a module of JupyterLab's own, such as "@lumino/widgets".
  async function load(name) {
    const [version] = Object.values(sharedModules[name]);
    return (await version.get())();
  }

  // In a workshop, `classroom.js` adds what an instructor's class needs.
  async function activateClassroom(app) {
    const { baseUrl } = app.serviceManager.serverSettings;
    const response = await fetch(`${baseUrl}dltlab/classroom`).catch(() => null);
    if (response?.ok && (await response.json()).active) {
      const classroom = await import(new URL("classroom.js", scriptUrl));
      await classroom.activate(app, load);
    }
  }

  async function activate(app) {
    const { Widget } = await load("@lumino/widgets");
    const { baseUrl } = app.serviceManager.serverSettings;
    const opensNotebook = location.pathname.includes("/tree/");

    class StartPage extends Widget {
      constructor() {
        super();
        this.id = "dltlab-start-page";
        this.title.label = "Start";
        this.node.tabIndex = 0; // the arrow keys scroll
        this.node.addEventListener("click", openNotebook);
        setInterval(() => this.isVisible && this.refresh(), REFRESH_MILLISECONDS);
      }

      onAfterShow() {
        this.refresh();
      }

      onActivateRequest() {
        this.node.focus();
      }

      async refresh() {
        const response = await fetch(`${baseUrl}dltlab/start`).catch(() => null);
        const html = response?.ok ? await response.text() : this.html; // the server may be down
        if (html !== this.html) {
          this.html = html;
          this.replaceContent(html);
        }
      }

      // Show new content with the same lists open and the same link in focus.
      replaceContent(html) {
        const lists = () => [...this.node.querySelectorAll("details")];
        const places = () => [...this.node.querySelectorAll("a, summary")];
        const open = lists().map((list) => list.open);
        const focused = places().indexOf(document.activeElement);
        this.node.innerHTML = html;
        lists().forEach((list, number) => (list.open = open[number] ?? false));
        places()[focused]?.focus();
      }
    }

    function openNotebook(event) {
      const path = event.target.closest("a")?.dataset.path;
      if (path && !event.ctrlKey && !event.metaKey && !event.shiftKey) {
        event.preventDefault();
        app.commands.execute("docmanager:open", { path });
      }
    }

    app.restored.then(() => {
      const page = new StartPage();
      app.shell.add(page, "main", { activate: !opensNotebook });
      page.refresh();
    });
  }

  window._JUPYTERLAB = window._JUPYTERLAB || {};
  window._JUPYTERLAB.dltlab = {
    init: (modules) => {
      sharedModules = modules;
    },
    get: async () => () => ({
      __esModule: true,
      default: [
        { id: "dltlab:start-page", autoStart: true, activate },
        { id: "dltlab:classroom", autoStart: true, activate: activateClassroom },
      ],
    }),
  };
})();
