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

  // Request a path of the server; return null where it does not answer. JupyterHub lets scripts
  // read only with the token against forged requests, which JupyterLab adds.
  async function request(app, path, init = {}) {
    const { ServerConnection } = await load("@jupyterlab/services");
    const settings = app.serviceManager.serverSettings;
    return ServerConnection.makeRequest(settings.baseUrl + path, init, settings).catch(() => null);
  }

  // In a workshop, `classroom.js` adds what an instructor's class needs.
  async function activateClassroom(app) {
    const response = await request(app, "dltlab/classroom");
    if (!response?.ok || !(await response.json()).active) return;
    const script = document.createElement("script"); // JupyterHub does not serve it to `import`
    script.src = new URL("classroom.js", scriptUrl);
    const loaded = new Promise((resolve) => script.addEventListener("load", resolve));
    document.head.append(script);
    await loaded;
    await window._JUPYTERLAB.dltlab.classroom(app, load, request);
  }

  async function activate(app) {
    const { Widget } = await load("@lumino/widgets");
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
        const response = await request(app, "dltlab/start");
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
